//! What was seen of a gateway, and what is decided.

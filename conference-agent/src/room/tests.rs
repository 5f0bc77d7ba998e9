//! The room as a specification, on virtual time.

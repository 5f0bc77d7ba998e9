//! Who is alive, who serves what, and the only owner of durable state.

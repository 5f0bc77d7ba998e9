//! Rooms: participants, streams, subscriptions, layouts. Decides, never touches media.

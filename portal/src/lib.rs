//! The edge for clients: Socket.IO signaling, tokens, management REST, web pages.

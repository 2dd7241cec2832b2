//! One agent session: an MCP server on stdio over the client.

"""The Model Context Protocol in plain asyncio."""

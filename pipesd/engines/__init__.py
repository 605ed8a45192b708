"""The models: synchronous, unaware of asyncio and of sessions."""

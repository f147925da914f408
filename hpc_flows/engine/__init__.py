"""The engine: how a task and a flow are run, written once for synchronous and asyncio programs."""

"""Waiting until a moment, or until somebody says that it is enough."""

import asyncio


class Pause:
    """Ends by itself or sooner; a timer and a future, as there are thousands of it in a second of the lab."""

    def __init__(self) -> None:
        self._waits: dict[asyncio.Future[bool], None] = {}

    async def until(self, moment_s: float) -> bool:
        """Wait until then, on the event loop's clock; whether nobody has interrupted it."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_at(moment_s, _end, over, True)
        self._waits[over] = None
        try:
            return await over
        finally:
            timer.cancel()
            del self._waits[over]

    def interrupt(self) -> None:
        """End all waits that there are now, the oldest first."""
        for over in self._waits:
            _end(over, False)


def _end(over: asyncio.Future[bool], by_itself: bool) -> None:
    if not over.done():
        over.set_result(by_itself)

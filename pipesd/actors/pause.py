"""Waiting until a moment, or until somebody says that it is enough."""

import asyncio


class Pause:
    """Ends by itself or sooner; a timer and a future, as there are thousands of it in a second of the lab."""

    def __init__(self) -> None:
        self._waits: set[asyncio.Future[bool]] = set()

    async def until(self, moment_s: float) -> bool:
        """Wait until then, on the event loop's clock; whether nobody has interrupted it."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_at(moment_s, _end, over, True)
        self._waits.add(over)
        try:
            return await over
        finally:
            timer.cancel()
            self._waits.discard(over)

    def interrupt(self) -> None:
        """End all waits that there are now."""
        for over in self._waits:
            _end(over, False)


def _end(over: asyncio.Future[bool], by_itself: bool) -> None:
    if not over.done():
        over.set_result(by_itself)

"""A slow coroutine is given up; it says so as it is cancelled."""

import asyncio

said = []


async def slow(name):
    try:
        await asyncio.sleep(10)
        said.append(f"{name} is done")
    except asyncio.CancelledError:
        said.append(f"{name} is cancelled")
        raise


async def run():
    try:
        await asyncio.wait_for(slow("first"), timeout=1)
    except TimeoutError:
        said.append("too late")


def main():
    asyncio.run(run())
    print(said)


main()

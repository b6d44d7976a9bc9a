"""Three coroutines that sleep for different times, gathered; the results keep their order."""

import asyncio


async def double(number, delay):
    await asyncio.sleep(delay)
    return number * 2


async def run():
    return await asyncio.gather(double(1, 0.3), double(2, 0.1), double(3, 0.2))


def main():
    print(asyncio.run(run()))


main()

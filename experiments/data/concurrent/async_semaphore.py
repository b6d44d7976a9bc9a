"""Four downloads, two at once: who is done when."""

import asyncio

done = []


async def download(name, seconds, slots):
    async with slots:
        await asyncio.sleep(seconds)
        done.append(name)


async def run():
    slots = asyncio.Semaphore(2)
    jobs = {"a": 4, "b": 1, "c": 2, "d": 1}
    await asyncio.gather(*(download(name, seconds, slots) for name, seconds in jobs.items()))


def main():
    asyncio.run(run())
    print(done)


main()

"""Three stages joined by queues: numbers, their squares, the sum of those."""

import asyncio

END = None


async def count(out):
    for number in range(1, 4):
        await out.put(number)
    await out.put(END)


async def square(inbox, out):
    while (number := await inbox.get()) is not END:
        await out.put(number * number)
    await out.put(END)


async def total(inbox):
    result = 0
    while (number := await inbox.get()) is not END:
        result += number
    return result


async def run():
    numbers, squares = asyncio.Queue(1), asyncio.Queue(1)
    _, _, result = await asyncio.gather(count(numbers), square(numbers, squares), total(squares))
    return result


def main():
    print(asyncio.run(run()))


main()

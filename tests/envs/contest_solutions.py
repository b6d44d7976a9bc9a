"""Solutions of `experiments/rl/problems.jsonl` in Python and in C++, written apart from each other."""

SOLUTIONS = {
    "coins_back": (
        """
price, paid = map(int, input().split())
rest, coins = paid - price, 0
for coin in (10, 5, 1):
    coins += rest // coin
    rest %= coin
print(coins)
""",
        """
#include <iostream>
int main() {
    long price, paid;
    std::cin >> price >> paid;
    long rest = paid - price;
    std::cout << rest / 10 + rest % 10 / 5 + rest % 5 << "\\n";
}
""",
    ),
    "count_letter": (
        """
word, letter = input().strip(), input().strip()
print(word.count(letter))
""",
        """
#include <iostream>
#include <string>
int main() {
    std::string word;
    char letter;
    std::cin >> word >> letter;
    int count = 0;
    for (char each : word) count += each == letter;
    std::cout << count << std::endl;
}
""",
    ),
    "calm_days": (
        """
input()
days = list(map(int, input().split()))
best = run = 1
for before, after in zip(days, days[1:]):
    run = run + 1 if abs(before - after) <= 1 else 1
    best = max(best, run)
print(best)
""",
        """
#include <iostream>
int main() {
    int n, last, next, run = 1, best = 1;
    std::cin >> n >> last;
    while (--n) {
        std::cin >> next;
        int gap = next > last ? next - last : last - next;
        run = gap > 1 ? 1 : run + 1;
        if (run > best) best = run;
        last = next;
    }
    std::cout << best;
}
""",
    ),
    "mirror_words": (
        """
found = [word for word in input().split() if word == word[::-1]]
print(*found or ["none"], sep="\\n")
""",
        """
#include <iostream>
#include <string>
int main() {
    std::string word;
    bool any = false;
    while (std::cin >> word)
        if (word == std::string(word.rbegin(), word.rend())) {
            std::cout << word << "\\n";
            any = true;
        }
    if (!any) std::cout << "none\\n";
}
""",
    ),
    "crowded_bus": (
        """
seats, stops = map(int, input().split())
inside = behind = 0
for _ in range(stops):
    off, on = map(int, input().split())
    inside -= off
    boards = min(on, seats - inside)
    inside += boards
    behind += on - boards
print(behind)
""",
        """
#include <iostream>
int main() {
    int free, stops, off, on, behind = 0;
    std::cin >> free >> stops;
    while (stops--) {
        std::cin >> off >> on;
        free += off - on;
        if (free < 0) {
            behind -= free;
            free = 0;
        }
    }
    std::cout << behind << "\\n";
}
""",
    ),
    "clock_shifts": (
        """
total = 0
for _ in range(int(input())):
    hours, minutes = map(int, input().split(":"))
    total += 60 * hours + minutes
days, rest = divmod(total, 24 * 60)
print(f"{days} {rest // 60:02}:{rest % 60:02}")
""",
        """
#include <cstdio>
int main() {
    int n, hours, minutes, h = 0, m = 0;
    std::scanf("%d", &n);
    while (n--) {
        std::scanf("%d:%d", &hours, &minutes);
        h += hours;
        m += minutes;
    }
    h += m / 60;
    std::printf("%d %02d:%02d\\n", h / 24, h % 24, m % 60);
}
""",
    ),
    "box_depth": (
        """
pairs = {")": "(", "]": "["}
stack, depth, sound = [], 0, True
for sign in input().strip():
    if sign in "([":
        stack.append(sign)
        depth = max(depth, len(stack))
    elif not stack or stack.pop() != pairs[sign]:
        sound = False
        break
print(depth if sound and not stack else -1)
""",
        """
#include <algorithm>
#include <iostream>
#include <string>
int main() {
    std::string signs, open;
    std::cin >> signs;
    size_t depth = 0;
    for (char sign : signs) {
        if (sign == '(' || sign == '[') {
            open += sign == '(' ? ')' : ']';
            depth = std::max(depth, open.size());
        } else if (!open.empty() && open.back() == sign) {
            open.pop_back();
        } else {
            open = "x";
            break;
        }
    }
    std::cout << (open.empty() ? (int)depth : -1) << "\\n";
}
""",
    ),
    "lamp_switches": (
        """
lamps, _ = map(int, input().split())
lit = [False] * (lamps + 1)
for step in map(int, input().split()):
    for lamp in range(step, lamps + 1, step):
        lit[lamp] = not lit[lamp]
print(sum(lit))
""",
        """
#include <iostream>
#include <vector>
int main() {
    int lamps, switches, lit = 0;
    std::cin >> lamps >> switches;
    std::vector<int> steps(switches);
    for (int& step : steps) std::cin >> step;
    for (int lamp = 1; lamp <= lamps; lamp++) {
        int presses = 0;
        for (int step : steps) presses += lamp % step == 0;
        lit += presses % 2;
    }
    std::cout << lit << "\\n";
}
""",
    ),
    "two_towers": (
        """
input()
blocks = list(map(int, input().split()))
heights = {0}
for block in blocks:
    heights |= {height + block for height in heights}
print(min(abs(sum(blocks) - 2 * height) for height in heights))
""",
        """
#include <bitset>
#include <iostream>
int main() {
    std::bitset<20001> heights;
    heights[0] = 1;
    int n, block, sum = 0;
    std::cin >> n;
    while (n--) {
        std::cin >> block;
        heights |= heights << block;
        sum += block;
    }
    int half = sum / 2;
    while (!heights[half]) half--;
    std::cout << sum - 2 * half << "\\n";
}
""",
    ),
    "garden_path": (
        """
rows, columns = map(int, input().split())
garden = [input().strip() for _ in range(rows)]
place = {garden[r][c]: (r, c) for r in range(rows) for c in range(columns)}
steps, edge, seen = 0, [place["S"]], {place["S"]}
while edge and place["T"] not in seen:
    steps += 1
    after = []
    for r, c in edge:
        for near in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
            if 0 <= near[0] < rows and 0 <= near[1] < columns and garden[near[0]][near[1]] != "#" and near not in seen:
                seen.add(near)
                after.append(near)
    edge = after
print(steps if place["T"] in seen else -1)
""",
        """
#include <iostream>
#include <queue>
#include <string>
#include <vector>
int main() {
    int rows, columns;
    std::cin >> rows >> columns;
    int wide = columns + 2;
    std::string map(wide, '#');
    for (int r = 0; r < rows; r++) {
        std::string row;
        std::cin >> row;
        map += '#' + row + '#';
    }
    map += std::string(wide, '#');
    std::vector<int> steps(map.size(), -1);
    std::queue<int> waiting;
    int start = map.find('S');
    steps[start] = 0;
    waiting.push(start);
    while (!waiting.empty()) {
        int at = waiting.front();
        waiting.pop();
        for (int move : {1, -1, wide, -wide})
            if (map[at + move] != '#' && steps[at + move] < 0) {
                steps[at + move] = steps[at] + 1;
                waiting.push(at + move);
            }
    }
    std::cout << steps[map.find('T')] << "\\n";
}
""",
    ),
    "shelf_swaps": (
        """
from bisect import bisect_right, insort
input()
seen, swaps = [], 0
for book in map(int, input().split()):
    swaps += len(seen) - bisect_right(seen, book)
    insort(seen, book)
print(swaps)
""",
        """
#include <iostream>
#include <vector>
int main() {
    int n;
    std::cin >> n;
    std::vector<int> books(n);
    for (int& book : books) std::cin >> book;
    long swaps = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) swaps += books[j] > books[i];
    std::cout << swaps << "\\n";
}
""",
    ),
    "ferry_groups": (
        """
_, trips = map(int, input().split())
groups = list(map(int, input().split()))
low, high = max(groups), sum(groups)
while low < high:
    size = (low + high) // 2
    needed, room = 1, size
    for group in groups:
        if group > room:
            needed, room = needed + 1, size
        room -= group
    low, high = (low, size) if needed <= trips else (size + 1, high)
print(low)
""",
        """
#include <algorithm>
#include <iostream>
#include <vector>
int main() {
    int n, trips;
    std::cin >> n >> trips;
    std::vector<long> until(n + 1, 0), best;
    for (int i = 1; i <= n; i++) {
        std::cin >> until[i];
        until[i] += until[i - 1];
    }
    best = until;  // of the first i groups, in one trip
    while (--trips)
        for (int i = n; i > 0; i--)
            for (int j = 0; j < i; j++) best[i] = std::min(best[i], std::max(best[j], until[i] - until[j]));
    std::cout << best[n] << "\\n";
}
""",
    ),
}

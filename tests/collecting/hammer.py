"""A process that answers tasks of a store as fast as it can, and says which were kept: `KEY TASK`."""

from __future__ import annotations

import sys
import threading

from trueup.collecting.store import Store
from trueup.collecting.tasks import Desk, Given


def main(place: str, first: int, people: int, turn: str) -> None:
    """Nothing; `people` threads answer until they are killed or nothing is left."""
    store = Store(place)

    def answers(who: int) -> None:
        desk = Desk(store=store)
        while (task := desk.assign(who)) is not None:
            key = f"{turn}-{who}-{task.id}"
            given = Given(task=task.id, key=key, body={"a": 0, "b": 1, "choice": "a", "strength": 1})
            fates = [desk.submit(who, given) for _ in range(2)]  # every answer is sent twice
            if fates[0] == "kept":
                sys.stdout.write(f"{key} {task.id}\n")
                sys.stdout.flush()

    threads = [threading.Thread(target=answers, args=(first + n,)) for n in range(people)]
    print("ready", flush=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

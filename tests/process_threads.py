"""Where the threads of a process stand, for the failure of a test that waits for it."""
import pathlib
import time


def threads_of(process):
    """What each thread of the process with that number did within a second: processor time in ticks, and where it waits."""
    def times():
        found = {}
        for task in pathlib.Path(f"/proc/{process}/task").iterdir():
            try:
                name, rest = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
                fields = rest.split()
                found[task.name] = (name, fields[0], int(fields[11]), int(fields[12]), (task / "wchan").read_text())
            except OSError:
                pass  # it ended
        return found
    before = times()
    time.sleep(1)
    return "\n".join(f"thread {name}: {state}, user +{user - before[task][2]}, system +{system - before[task][3]} of {user}+{system} ticks, in {place}"
                     for task, (name, state, user, system, place) in times().items() if task in before)

#!/usr/bin/env python3
"""A scripted eight-hour day of a machine, and its true figures, told second by second.

    oee.py          writes tests/it/day/events.jsonl and figures.json
    oee.py --check  makes them anew and compares

Every second of the day is judged by itself: is it planned, what held, was anybody there. Nothing here is shared with the
gateway: no intervals, no running account. The standard library only.
"""
import datetime, json, pathlib, sys, zoneinfo

ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
FOLDER = pathlib.Path(__file__).parent.parent / "it" / "day"
H = 3600
DAY = 8 * H                                     # the shift, from 06:00 to 14:00
BREAK = (4 * H, 4 * H + 1800)                   # 10:00 to 10:30
AWAY = (5 * H, 5 * H + 600)                     # the gateway is restarted: ten minutes nobody looks
DARK = (2 * H, 2 * H + 300)                     # an input is not known
STEP_AT = 4 * H + 900                              # the wall clock is 30 s too far for an hour
START = int(datetime.datetime(2026, 11, 26, 6, tzinfo=ZONE).timestamp())

SCRIPT = [                                      # from second, state of the machine
    (0, "setup"), (1200, "run"), (5000, "fault"), (5900, "run"), (9000, "idle"), (9480, "run"),
    (12000, "stop"), (12345, "run"), (14400, "run"), (15000, "idle"), (16200, "run"), (19800, "setup"), (20700, "run"),
    (24000, "fault"), (24555, "run"), (28000, "stop"),
]
PRODUCT = [(0, "cup"), (19800, "lid")]
CYCLE = {"cup": 24.0, "lid": 18.0}
CAVITIES = 4


def of(table, second):
    return [value for start, value in table if start <= second][-1]


def inside(span, second):
    return span[0] <= second < span[1]


def truth():
    """What the machine does, each second: a shot each 25 (cup) or 20 s (lid) of running; a part bad now and then."""
    seconds, ran = [], 0
    for second in range(DAY):
        state, product = of(SCRIPT, second), of(PRODUCT, second)
        running = state == "run"
        ran += running
        shot = running and ran % (25 if product == "cup" else 20) == 0
        seconds.append(dict(
            state=state, product=product, shots=int(shot), scrap=int(running and ran % 700 == 0),
            # a quarter of a kWh a minute, in the break too: in 64ths, so that sums are exact
            energy=0.015625 * 16 if second % 60 == 30 else 0.0,
        ))
    return seconds


def wall(second):
    """The wall clock: 30 s too far for an hour, which begins in the break; so the break ends 30 s early."""
    return START + second + (30 if inside((STEP_AT, STEP_AT + H), second) else 0)


def events(seconds):
    lines, known, counter = [], None, 65400
    shown = dict(product=None, cycle=None)
    for second, fact in enumerate(seconds):
        counter += fact["shots"]
        put = lambda **what: lines.append(dict(at=second, wall=wall(second), **what))
        if second == AWAY[0]:
            put(save=True)
        if inside(AWAY, second):
            continue
        if second == AWAY[1]:
            put(restore=True)
            known = None
        if second in (STEP_AT, STEP_AT + H):
            put(step=True)
        if fact["product"] != shown["product"] or second == AWAY[1]:
            shown["product"] = fact["product"]
            put(product=fact["product"])
            put(cycle=CYCLE[fact["product"]])
        state = None if inside(DARK, second) else fact["state"]
        if state != known or second == 0:
            known = state
            names = ("fault", "setup", "run", "idle")
            put(conditions=[None if state is None else state == name for name in names])
        if second == 26100:                     # the PLC is restarted: its counter begins at 0
            counter = 0 + fact["shots"]
            put(counter=0)
        if fact["shots"]:
            # 16 bits, so it wraps; what was made while nobody was there comes with the first count after
            put(counter=counter % 65536)
        if fact["scrap"]:
            put(scrap=1)
        if fact["energy"]:
            put(energy=fact["energy"])
    return lines


def figures(seconds):
    total = lambda test: sum(1 for second, fact in enumerate(seconds) if test(second, fact))
    planned = lambda second: not inside(BREAK, wall(second) - START)
    seen = lambda second: not inside(AWAY, second) and not inside(DARK, second)
    known = lambda state: total(lambda s, f: planned(s) and seen(s) and f["state"] in state)
    pbt, apt = total(lambda s, f: planned(s)), known(["run"])
    shots = sum(f["shots"] for f in seconds)
    scrap = sum(f["scrap"] for s, f in enumerate(seconds) if not inside(AWAY, s))
    energy = sum(f["energy"] for s, f in enumerate(seconds) if not inside(AWAY, s))
    ideal = sum(f["shots"] * CYCLE[f["product"]] for s, f in enumerate(seconds) if planned(s))
    pieces = shots * CAVITIES
    a, p, q = apt / pbt, ideal / apt, (pieces - scrap) / pieces
    return dict(
        apt_s=apt, aust_s=known(["setup"]), adet_s=known(["fault"]), adot_s=known(["idle", "stop"]),
        unknown_s=total(lambda s, f: planned(s) and not seen(s)), pbt_s=pbt, pieces=pieces, scrap=scrap,
        good=pieces - scrap, energy_kwh=energy, kwh_per_piece=energy / pieces,
        availability=a, performance=p, quality=q, oee=a * p * q,
        products={name: sum(f["shots"] for f in seconds if f["product"] == name) * CAVITIES for name in CYCLE},
    )


def main():
    seconds = truth()
    files = {
        "events.jsonl": "".join(json.dumps(line) + "\n" for line in events(seconds)),
        "figures.json": json.dumps(figures(seconds), indent=2) + "\n",
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if "--check" not in sys.argv:
            (FOLDER / name).write_text(text)
        elif (FOLDER / name).read_text() != text:
            sys.exit(f"{FOLDER / name} is not what the script makes")


main()

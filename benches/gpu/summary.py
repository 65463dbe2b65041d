"""The lines of benches/gpu/run.sh as Markdown: checks that failed, and goals, measured figures and their ratios.

    python summary.py gpu.jsonl"""
import json
import sys

# Peers of what has a goal, by the start of its name.
PEERS = {
    "token_scores forward": ["torch: log-probs forward", "torch.compile: log-probs forward",
                             "TRL: log-probs and entropy forward"],
    "log-probs forward + backward in place": [
        "torch: log-probs forward + backward", "torch.compile: log-probs forward + backward",
        "Liger: cross-entropy forward + backward, with a copy of the logits"],
    "reverse KL forward + backward in place": [
        "torch: reverse KL forward + backward", "torch.compile: reverse KL forward + backward"],
    "linear log-probs, all gradients": [
        "torch: linear log-probs", "Liger: linear cross-entropy", "Cut-Cross-Entropy",
        "Cut-Cross-Entropy, nothing skipped"],
}


def lines(path):
    with open(path) as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                yield {"unreadable": line.strip()}


def ratio(measured, goal):
    return f"{measured / goal:.2f}" if goal else ""


def number(value, digits=3):
    return "" if value is None else f"{value:.{digits}g}"


def main(path):
    found = list(lines(path))
    for heading in dict.fromkeys(
            f"{line['gpu']}, [T, V, H] = {line['sizes']}" for line in found if "sizes" in line):
        print(f"{heading}\n")
    for line in found:
        if "torch" in line:
            print(f"Peers under PyTorch {line['torch']}.\n")
    checks = [line for line in found if "check" in line or "full" in line]
    failed = [line for line in checks if not line["passed"]]
    print(f"{len(checks) - len(failed)} of {len(checks)} checks passed.")
    for line in failed:
        print(f"- FAILED: {json.dumps(line)}")
    for line in found:
        if "sanitizer" in line:
            said = {0: "no error", 9: "ERRORS, see sanitizer.log", 124: "not finished in its time"}
            print(f"\ncompute-sanitizer {line['sanitizer']}: {said.get(line['exit'], line)}")
        if "unreadable" in line:
            print(f"- not JSON: {line['unreadable'][:200]}")
    peers = {line["peer"]: line for line in found if "peer" in line}
    print("\nGoals are of an H100 at 8192 x 151936 x 4096. A ratio up to 1 reaches its goal.\n")
    print("| work | ms | goal | ratio | GiB beyond | goal | ratio | GB/s | TFLOP/s | fastest peer, ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for line in found:
        if "time" not in line:
            continue
        names = next((names for start, names in PEERS.items() if line["time"].startswith(start)), [])
        timed = [(peers[name]["ms"], name) for name in names if "ms" in peers.get(name, {})]
        best = "{1}: {0:.3g}".format(*min(timed)) if timed else ""
        cells = [line["time"], number(line["ms"]), number(line["goal_ms"]),
                 ratio(line["ms"], line["goal_ms"]), number(line["gib_beyond"]),
                 number(line["goal_gib"]), ratio(line["gib_beyond"], line["goal_gib"]),
                 number(line["gb_per_s"], 4), number(line["tflops"]), best]
        print("| " + " | ".join(cells) + " |")
    if peers:
        print("\n| peer | ms | MiB at most |\n|---|---|---|")
        for name, line in peers.items():
            if "ms" in line:
                print(f"| {name} | {number(line['ms'])} | {line['peak_mib']:.0f} |")
            else:
                print(f"| {name} | failed: {line['error']} | |")


main(sys.argv[1])

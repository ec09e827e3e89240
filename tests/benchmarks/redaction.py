"""Measure the time to look for secrets, in growing lines that are made to be slow, and in ordinary lines.

For each family of lines the time is printed at each size, and the ratio to that at half the size: 2 is proportional, 4 is
quadratic.

    python tests/benchmarks/redaction.py                    # to 1 MiB
    python tests/benchmarks/redaction.py --largest 16384    # shorter
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
import timeit

from runwide.redaction import Lines, redacted, redacted_json, shortened

FAMILIES = {
    "dashes": "-",
    "key begins": "-----BEGIN ",
    "key begins, whole": "-----BEGIN PRIVATE KEY-----",
    "key ends": "-----END PRIVATE KEY-----",
    "key ends, words": "-----END A A A ",
    "key, one after another": "-----BEGIN PRIVATE KEY----- -----END PRIVATE KEY-----",
    "base64": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJz",
    "blanks": " ",
    "tabs behind a name": "password\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t",
    "names": "token",
    "names, plural": "tokens ",
    "names and dashes": "--token-",
    "options": "--token ",
    "options in a list": "'--token', ",
    "underscores": "_",
    "a value of many kinds": "Ab-_9-",
    "equals": "token=",
    "equals, blanks": "token = ",
    "colons": "token: ",
    "annotations": "token: str | None = ",
    "types": "token: str | str | str | str | str | str | str | str",
    "generics": "token: Optional[Optional[Optional[Optional[",
    "types in types": "token: str[]|str[]|str[]|str[]|str[]|str[]|str[]|str[]|str[]! ",
    "lines in brackets": "\n",
    "backslashes": "\\",
    "escaped quotes": '\\"',
    "names and escaped quotes": 'token=\\"',
    "names and backslashes": "token=\\\\\\\\\\\\",
    "names and deeper quotes": 'token=\\\\\\"',
    "names and quotes": 'token="',
    "names and both quotes": "token=\"'",
    "names and three quotes": 'token="""',
    "names, quotes and lines": 'token="\\\n',
    "brackets": "token=[",
    "brackets and lines": "token=[\n",
    "brackets, not closed on a line": "token=[x\n",
    "braces and quotes": "token={'",
    "calls": "token=call(",
    "closing brackets": ")a",
    "encoded": "token%3D",
    "encoded more": "token%25253D%2525",
    "per cent": "%25",
    "queries": "?sig=",
    "queries without values": "&signature",
    "headers": "authorization: bearer ",
    "headers, other scheme": "authorization: own1 ",
    "headers of two": "authorization: digest a",
    "bearers": "bearer ",
    "basics": "basic dXNlcjpodW50ZXIy",
    "basics in a row": "basic-",
    "cookies": "cookie ",
    "cookies with lines": "cookie: a\n",
    "URLs": "http://",
    "URLs with colons": "://a:",
    "URLs with passwords": "://a:b@",
    "ats": "@a",
    "web tokens": "eyJaaaaaaaa-",
    "web tokens in parts": "eyJaaaaaaaa.",
    "web tokens, short": "eyJ-",
    "marks": "AIza-",
    "marks of one letter": "sk-a-",
    "marks of GitHub": "ghp_",
    "elements": "<password>",
    "hidden": "token=[redacted]",
    "hidden and cut": "[redacted",
    "capitals with a dot": "\u0130token=",
}
STARTS = {
    "dashes": "-",
    "base64": "token=",
    "backslashes": "token=",
    "escaped quotes": "token=",
    "closing brackets": "token=a",
    "a value of many kinds": "x=",
    "ats": "://a:b",
    "per cent": "token%3D",
    "underscores": "-----BEGIN PRIVATE KEY-----\n",
    "blanks": "password ",
    "lines in brackets": "token=[,",
}
ORDINARY = (
    "item 17 done in 0.25 s",
    "epoch 3/10 loss=0.1234 acc=0.9821 lr=1e-4 batch 512 of 1000",
    "reading gs://bucket/data/part-00017.parquet, 12345 rows",
    "2026-01-01 12:00:00,123 INFO mine.module: processed 1234 records without any trouble at all, going on to the next",
    "generated 512 tokens, max_tokens=512",
)
# µs before named secrets were looked for by their words, with one expression for everything; on 2 vCPUs
BEFORE = (8.0, 37.9, 19.1, 37.3, 45.8)
WAYS = {
    "redacted": redacted,
    "shortened": lambda text: shortened(text, 300),
    "shortened, tail": lambda text: shortened(text, 300, tail=True),
    "Lines": lambda text: [line(one) for line in (Lines(),) for one in ("-----BEGIN PRIVATE KEY-----", text)],
    "redacted_json": lambda text: redacted_json('{"a": "' + text.replace("\\", "").replace('"', "") + '"}'),
}


def adversarial(family, size):
    """A line of a family, of so many characters."""
    unit, start = FAMILIES[family], STARTS.get(family, "")
    return (start + unit * (size // len(unit) + 1))[:size]


def seconds(way, text):
    """CPU seconds of one call."""
    began = time.process_time()
    way(text)
    return time.process_time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=1 << 20, help="characters of the longest lines")
    parser.add_argument("--ways", default="redacted", help=f"of {', '.join(WAYS)}; all for all of them")
    options = parser.parse_args()
    sizes = [options.largest >> less for less in (4, 3, 2, 1, 0)]
    print(
        f"{platform.machine()}, Python {platform.python_version()}; CPU milliseconds, and the ratio to half the size.\n"
    )
    for name in WAYS if options.ways == "all" else options.ways.split(","):
        print(f"| {name} | {' | '.join(f'{size:,}' for size in sizes)} | worst ratio |")
        print(f"|---|{'--:|' * (len(sizes) + 1)}")
        for family in FAMILIES:
            took = [seconds(WAYS[name], adversarial(family, size)) for size in sizes]
            ratios = [after / before for before, after in itertools.pairwise(took) if before > 0.001]
            cells = " | ".join(f"{1000 * one:,.1f}" for one in took)
            print(f"| {family} | {cells} | {max(ratios, default=0.0):.1f} |", flush=True)
        print()
    print("| ordinary line | characters | µs | µs before |\n|---|--:|--:|--:|")
    for line, before in zip(ORDINARY, BEFORE, strict=True):
        number = 20_000
        took = min(timeit.repeat(lambda line=line: redacted(line), number=number, repeat=5)) / number
        print(f"| {line[:40]} | {len(line)} | {took * 1e6:.1f} | {before:.1f} |")


if __name__ == "__main__":
    main()

"""Checks the documents against the tree and the program.

    check_docs.py ROOT links        every relative link of every *.md in the tree resolves, with its anchor
    check_docs.py ROOT statuses     docs/api.md lists the header's statuses
    check_docs.py ROOT commands TOOL
                                    every subcommand, script and option that a document names exists
    check_docs.py ROOT program COMPILER FLAGS LIBRARY
                                    the README's program is examples/minimal.c, compiles without warnings and runs
    check_docs.py ROOT self-test    the checks find what they must find
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.parse


def documents(root):
    names = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
                           capture_output=True, text=True)
    if names.returncode == 0:
        found = [root / name for name in names.stdout.splitlines()]
    else:  # an unpacked archive
        found = [p for p in root.rglob("*.md") if not p.relative_to(root).parts[0].startswith("build")]
    return sorted(p for p in found if p.exists())


def without_code(text):
    """The text with code blocks and code spans blanked, for they hold no links and no headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "``", text)


def anchors(text):
    """The anchors that GitHub gives to headings."""
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        unique, k = name, 0
        while unique in found:
            k += 1
            unique = f"{name}-{k}"
        found.add(unique)
    return found


def bad_links(document, root):
    bad = []
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?: +\"[^\"]*\")?\)", without_code(text))
    targets += re.findall(r"<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"", without_code(text))
    targets += re.findall(r"^\[[^\]]+\]: +(\S+)", without_code(text), flags=re.M)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = urllib.parse.unquote(target).partition("#")
        file = document if not path else (document.parent / path)
        where = f"{document.relative_to(root)}: {target}"
        if not file.exists():
            bad.append(f"{where}: no such file")
        elif root not in [file.resolve(), *file.resolve().parents]:
            bad.append(f"{where}: outside the tree")
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            bad.append(f"{where}: no such heading")
    return bad, len(targets)


COMMAND = (r"(?:\$ +)?(?:\w+=(?:\"[^\"]*\"|\S*) +)*"  # a prompt, variables
           r"((?:\S*/)?clnorm|(?:\./)?(?:scripts/[\w-]+\.(?:sh|py)|bench/[\w-]+\.py|\.ci/run))(?= |$)(.*)")


def command_lines(text):
    """Command lines in code: (program, words). Backslashes join lines."""
    lines = []
    for block in re.findall(r"^```(?:sh|console|text)?\n(.*?)^```", text, flags=re.M | re.S):
        lines += block.replace("\\\n", " ").splitlines()
    lines += re.findall(r"^ {4,}(\S.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    found = []
    for line in lines:
        match = re.match(COMMAND, line.strip())
        if match:
            found.append((match[1], re.split(r"\s+", match[2].split(" #")[0].split(" | ")[0].split(" > ")[0].strip())))
    return found


def bad_commands(document, root, tool, help_texts):
    bad, count = [], 0
    for program, words in command_lines(document.read_text(encoding="utf-8")):
        where = f"{document.relative_to(root)}: {program} {' '.join(words)}"
        words = [word for word in words if word]
        if program.endswith("clnorm"):
            if not words or words[0].isupper() or words[0] in ("…", "--help", "--version"):
                continue
            command = [str(tool)] + words[:2 if words[0] == "demo" else 1]
        else:
            script = root / program
            if not os.access(script, os.X_OK):
                bad.append(f"{where}: no such script")
                continue
            command = [str(script)]
            if program.endswith(".ci/run"):
                continue  # takes no options
        key = tuple(command)
        count += 1
        if key not in help_texts:
            run = subprocess.run(command + ["--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
            help_texts[key] = run.stdout if run.returncode == 0 else None
        if help_texts[key] is None:
            bad.append(f"{where}: --help fails")
            continue
        for option in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", " ".join(words)):
            if not re.search(re.escape(option) + r"(?![a-z-])", help_texts[key]):
                bad.append(f"{where}: --help does not know {option}")
    return bad, count


def check_all(root, check, least):
    bad, total = [], 0
    for document in documents(root):
        more, count = check(document)
        bad += more
        total += count
    print("\n".join(bad) if bad else f"{total} are right")
    assert total >= least, f"only {total} were found: the search is broken"
    return 1 if bad else 0


def check_statuses(root):
    """docs/api.md lists the statuses of the header, with their numbers."""
    header = (root / "include/clnorm/clnorm.h").read_text(encoding="utf-8")
    page = (root / "docs/api.md").read_text(encoding="utf-8")
    want = re.findall(r"^    X\((\w+), (\d+), ", header, flags=re.M)
    have = re.findall(r"^\| `CLNORM_(OK|E_\w+)` \| (\d+) \|", page, flags=re.M)
    assert want and want == have, f"the header has {want}, docs/api.md has {have}"
    print(f"{len(want)} statuses are right")
    return 0


def check_program(root, compiler, flags, library):
    blocks = re.findall(r"^```c\n(.*?)^```", (root / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    whole = [block for block in blocks if "int main(" in block]
    assert len(whole) == 1, f"README.md has {len(whole)} whole C programs and must have one"
    assert whole[0] == (root / "examples/minimal.c").read_text(encoding="utf-8"), \
        "README.md's program and examples/minimal.c differ"
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder, "readme.c"), pathlib.Path(folder, "readme")
        source.write_text(whole[0], encoding="utf-8")
        subprocess.run([compiler, *shlex.split(flags), "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", root / "include",
                        source, "-o", program, library, f"-Wl,-rpath,{pathlib.Path(library).parent}"], check=True)
        for device in ("cpu", "auto"):
            output = subprocess.run([program, device], capture_output=True, text=True, check=True).stdout
            rows = [[float(word) for word in line.split()] for line in output.splitlines()]
            # 1, 2, 6: mean 3, variance 14/3; ten times that in the second channel
            for j, scale in ((0, 1.0), (1, 10.0)):
                for row, x in zip(rows, (1.0, 2.0, 6.0), strict=True):
                    want = (x - 3.0) * scale / (14.0 / 3.0 * scale**2 + 1e-5) ** 0.5
                    assert abs(row[j] - want) <= 0.51e-4, (device, output)
            print(f"{device}:\n{output}", end="")
    return 0


def self_test(root):
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder).resolve() / "tree"
        base.mkdir()
        (base / "other.md").write_text("# A `b` c, d\n\n## Twice\n\n## Twice\n", encoding="utf-8")
        page = base / "page.md"
        page.write_text("[1](other.md) [2](other.md#a-b-c-d) [3](none.md) [4](other.md#nothing) [5](other.md#twice-1) "
                        "[6](https://example.org/x) `[7](none.md)` [8](../outside.md) <img src=\"none.svg\">\n"
                        "```\n[9](none.md)\n```\n", encoding="utf-8")
        (base.parent / "outside.md").touch()
        bad, _ = bad_links(page, base)
        targets = [line.split(": ")[1] for line in bad]
        assert targets == ["none.md", "other.md#nothing", "../outside.md", "none.svg"], bad
        page.write_text("Say `clnorm nothing --x` or:\n\n    A=\"b c\" clnorm run --such 1 --out d   # words --not\n\n"
                        "`clnorm.h`\n", encoding="utf-8")
        helps = {("tool", "nothing"): None, ("tool", "run"): "--out DIR"}
        bad, count = bad_commands(page, base, "tool", helps)
        assert count == 2 and len(bad) == 2 and "--such" in bad[0] and "--help fails" in bad[1], bad
    print("the checks find what they must")
    return 0


def main():
    root, what = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    if what == "links":
        return check_all(root, lambda document: bad_links(document, root), 10)
    if what == "commands":
        helps = {}
        return check_all(root, lambda document: bad_commands(document, root, sys.argv[3], helps), 10)
    if what == "statuses":
        return check_statuses(root)
    if what == "program":
        return check_program(root, *sys.argv[3:6])
    return self_test(root)


if __name__ == "__main__":
    sys.exit(main())

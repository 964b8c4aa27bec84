"""Flags long sentences in README and docs: ``python docs/_sentences.py [FILE...]``."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 30
NO_PROSE = re.compile(
    r"^```.*?^```|^---\n.*?^---\n|<!--.*?-->|^\|.*?$|^#.*?$|\$\$.+?\$\$", re.M | re.S
)
ONE_WORD = re.compile(r"\$[^$\n]+\$|`[^`\n]+`")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )")
SENTENCE_END = re.compile(r"(?<=[.!?:;])[)*\"']*\s+")


def long_sentences(text: str) -> list[tuple[int, str]]:
    """The sentences of more than ``MOST_WORDS`` words of a Markdown text, with their lengths."""
    text = NO_PROSE.sub("\n\n", text)
    text = LINK.sub(r"\1", ONE_WORD.sub("code", text))
    found = []
    for paragraph in PARAGRAPH.split(text):
        for sentence in SENTENCE_END.split(paragraph):
            words = re.findall(r"\w[\w'-]*", sentence)
            if len(words) > MOST_WORDS:
                found.append((len(words), " ".join(sentence.split())))
    return found


def main(pages: list[Path]) -> int:
    """Prints every long sentence; returns how many there are."""
    count = 0
    for page in pages:
        for words, sentence in long_sentences(page.read_text("utf-8")):
            print(f"{page.relative_to(ROOT)}: {words} words, at most {MOST_WORDS}: {sentence}")
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(main([Path(name).resolve() for name in sys.argv[1:]] or PAGES) > 0)

"""What is to be read on the machine's screen: the text console of the firmware draws each character as one glyph of 8 by 19 pixels, whose
shapes are in EDK II's source."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pictures import read_png  # noqa: E402

GLYPH_WIDTH, GLYPH_HEIGHT = 8, 19


def read_glyphs(edk2):
    """Shape, as GLYPH_HEIGHT bytes, to character."""
    source = (edk2 / "MdeModulePkg/Universal/Console/GraphicsConsoleDxe/LaffStd.c").read_text()
    found = re.findall(r"\{ 0x00([2-7][0-9A-Fa-f]),\s+0x00, \{ ((?:0x[0-9A-Fa-f]{2}(?:, )?){19}) \}", source)
    glyphs = {bytes(int(each, 16) for each in shape.split(", ")): chr(int(code, 16)) for code, shape in found}
    assert len(glyphs) > 90, "the font is not where it was"
    return glyphs


def read_text(path, glyphs):
    """The console's lines. It stands in the middle of the screen, with as many rows as fit or one of the usual numbers of them."""
    width, height, lines = read_png(path)
    texts = []
    for top in {(height - rows * GLYPH_HEIGHT) // 2 % GLYPH_HEIGHT for rows in (25, 31, height // GLYPH_HEIGHT)}:
        texts.append("\n".join(_read_row(lines[y:y + GLYPH_HEIGHT], width, glyphs)
                               for y in range(top, height - GLYPH_HEIGHT + 1, GLYPH_HEIGHT)))
    return max(texts, key=lambda each: len(each.replace("?", "").replace(" ", "")))


def _read_row(lines, width, glyphs):
    text = ""
    for x in range(width % GLYPH_WIDTH // 2, width - GLYPH_WIDTH + 1, GLYPH_WIDTH):
        cell = [line[x * 3:(x + GLYPH_WIDTH) * 3] for line in lines]
        background = cell[0][:3]  # no glyph has a point in its corner
        shape = bytes(sum(0x80 >> column for column in range(GLYPH_WIDTH) if row[column * 3:column * 3 + 3] != background) for row in cell)
        text += glyphs.get(shape, "?")
    return text.rstrip()

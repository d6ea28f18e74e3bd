"""What was uploaded, as the agent gets at it: real agents, real uploads, every type that the reference names."""

import base64
import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

import cdpbridge.server.tasks.agent
from cdpbridge.api import AsyncClient
from tests.server.tasks.agent.llm import act, done, serve_model

pytestmark = [
    pytest.mark.one_build("the agent's process and its task; it does not see the build"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]
KEY = "key-of-tests"
# It runs where browser-use is, and needs what is there.
DOCUMENTS_PROGRAM = Path(cdpbridge.server.tasks.agent.__file__).with_name("_child_documents.py")
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def zipped(**parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return out.getvalue()


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
WORD = zipped(
    word__document_dot_xml=f"<w:document {W}><w:body><w:p><w:r><w:t>Dear </w:t></w:r><w:r><w:t>Ada</w:t></w:r></w:p>"
    "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    "</w:body></w:document>"
)
EXCEL = zipped(
    xl__workbook_dot_xml=f'<workbook {S} xmlns:r="{R}"><sheets><sheet name="Prices" r:id="rId1"/></sheets></workbook>',
    xl___rels__workbook_dot_xml_dot_rels='<Relationships xmlns="x"><Relationship Id="rId1" Target="worksheets/s.xml"/></Relationships>',
    xl__sharedStrings_dot_xml=f"<sst {S}><si><t>apple</t></si></sst>",
    xl__styles_dot_xml=f'<styleSheet {S}><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
    xl__worksheets__s_dot_xml=f'<worksheet {S}><sheetData><row><c r="A1" t="s"><v>0</v></c><c r="C1"><v>1.5</v></c>'
    '<c r="D1" s="1"><v>45000</v></c><c r="E1" t="b"><v>1</v></c><c r="F1" t="inlineStr"><is><t>in</t></is></c></row>'
    "</sheetData></worksheet>",
)


def pdf(text):
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()


DOCUMENTS = {
    "note.txt": (b"hello", "hello"),
    "umlaut.txt": ("Grüße".encode("cp1252"), "Grüße"),
    "utf16.txt": ("Grüße".encode("utf-16"), "Grüße"),
    "table.csv": (b"a,b\n1,2\n", "a,b\n1,2\n"),
    "read me.md": (b"# Title", "# Title"),
    "no_ending": (b"plain words", "plain words"),
    "drawing.svg": (b"<svg xmlns='x'><text>drawn</text></svg>", "<text>drawn</text>"),
    "letter.docx": (WORD, "Dear Ada\na\tb"),
    "prices.xlsx": (EXCEL, "--- Sheet Prices ---\napple\t\t1.5\t2023-03-15\tTRUE\tin"),
    "paper.pdf": (pdf("Printed words"), "Printed words"),
    "letter in disguise.txt": (WORD, "Dear Ada"),
    "old.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "An old letter to Ada".encode("utf-16-le") + bytes(9), "An old letter"),
}  # fmt: skip


def test_the_text_of_every_type_of_document(agent_python, tmp_path):
    for name, (content, _) in DOCUMENTS.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "broken.docx").write_bytes(WORD[:200])
    (tmp_path / "program").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "bomb.docx").write_bytes(
        zipped(word__document_dot_xml="<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>")
    )
    program = f"""
import json, pathlib, runpy
module = runpy.run_path({str(DOCUMENTS_PROGRAM)!r}, run_name="documents")
found = {{}}
for path in pathlib.Path({str(tmp_path)!r}).iterdir():
    try:
        found[path.name] = module["text"](path)
    except module["Unreadable"] as error:
        found[path.name] = f"Unreadable: {{error}}"
print(json.dumps(found))
"""
    said = subprocess.run([agent_python, "-c", program], capture_output=True, text=True, check=True)
    found = json.loads(said.stdout)
    for name, (_, expected) in DOCUMENTS.items():
        assert expected in found[name], name
    for name in ("broken.pdf", "broken.docx", "program", "bomb.docx"):
        assert found[name].startswith("Unreadable: "), (name, found[name])


@pytest.fixture
async def model():
    async with serve_model() as model:
        yield model


async def test_uploads_are_read_by_their_names_and_images_are_in_the_first_question(
    make_server, model, agent_python, tmp_path
):
    note, photo = tmp_path / "note.txt", tmp_path / "photo.png"
    photo.write_bytes(PIXEL)
    script = [
        act({"read_file": {"file_name": "note.txt"}}, {"read_file": {"file_name": "note (2).txt"}}),
        act({"write_file": {"file_name": "note.txt", "content": "and more", "append": True}}),
        act({"read_file": {"file_name": "note.txt"}}, {"read_file": {"file_name": "uploads/note.txt"}}),
        act({"read_file": {"file_name": "nothing.txt"}}, {"read_file": {"file_name": "photo.png"}}),
        act({"upload_file": {"index": 1, "path": "/etc/passwd"}}),
        done("read"),
    ]
    model.answer = lambda _request, number: script[number - 1]
    settings = {"llm_base_url": model.base_url, "agent_python": agent_python}
    async with make_server(**settings) as server, AsyncClient(KEY, str(server.http.base_url)) as client:
        session = await client.sessions.create()
        names = []
        for words in ("the first one", "the second one"):
            note.write_text(words)
            names.append(await client.files.upload(note, session_id=session.id))
        await client.files.upload(photo, session_id=session.id)
        assert names == ["note.txt", "note (2).txt"]
        result = await client.run("read them", session_id=session.id, judge=False)
        assert result.output == "read", result.task
        [written] = result.output_files
        path = await client.files.download(result.id, written.id, tmp_path / "down.txt")
        assert path.read_text() == "the first oneand more\n"
        await client.sessions.stop(session.id)
    first = model.requests[0]
    for words in ("note.txt (text, 13 bytes)", "note (2).txt", "photo.png (png image"):
        assert words in first.text
    assert str(server.data_dir) not in first.text
    assert first.pictures == 1
    assert model.requests[1].pictures == 0  # in the first question only
    assert "the first one" in model.requests[1].text
    assert "the second one" in model.requests[1].text
    # The agent's own file takes the name, and the agent is told so.
    assert (
        "note.txt is your own file now; the one that was given is uploads/note.txt" in model.requests[2].text
    )
    last = model.requests[3].text
    assert "the first oneand more" in last
    assert "<content>\nthe first one\n</content>" in last
    assert "'nothing.txt' not found" in model.requests[4].text
    assert model.requests[4].pictures == 1
    assert "There is no file" in model.requests[5].text
    assert Path("/etc/passwd").read_text()[:20] not in model.requests[5].text

from pathlib import Path


def test_save_as(page, site, tmp_path):
    page.goto(f"{site}/downloads")
    with page.expect_download() as download:
        page.get_by_text("Report").click()
    assert download.value.suggested_filename == "report of may.csv"
    download.value.save_as(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text() == "a,b\n1,2\n"


def test_path(page, site):
    page.goto(f"{site}/downloads")
    with page.expect_download() as download:
        page.get_by_text("Big").click()
    assert Path(download.value.path()).read_bytes() == bytes(range(256)) * 8192

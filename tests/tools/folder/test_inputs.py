"""Which pictures are taken, and what is passed over."""

from __future__ import annotations

from restoration.tests.tools.folder.helpers import photo


def test_hidden_files_are_not_taken_for_pictures(run, fake, photos) -> None:
    """macOS leaves ._a.png beside a.png on foreign disks."""
    (photos / "._a.png").write_bytes(b"\0\5\x16\7")
    photo(photos / ".trash" / "d.png", 99)
    assert run(photos, "--recursive") == 0
    assert len(fake.prompts) == 3


def test_patterns_and_files_and_deeper_folders(run, photos, tmp_path) -> None:
    photo(photos / "deep" / "d.png", 99)
    out = tmp_path / "out"
    assert run(photos / "[ab].png") == 0
    assert sorted(p.name for p in out.glob("*.png")) == ["a.png", "b.png"]
    assert run(photos) == 0
    assert not (out / "deep").exists() and (out / "c.png").exists()
    assert run(photos, "--recursive") == 0
    assert (out / "deep" / "d.png").exists()
    assert run(photos / "**" / "d.png", output=tmp_path / "flat") == 0
    assert (tmp_path / "flat" / "d.png").exists()


def test_results_inside_the_folder_are_not_taken_for_pictures(run, fake, photos) -> None:
    for _ in range(2):
        assert run(photos, "--recursive", output=photos / "restored") == 0
    assert len(fake.prompts) == 3


def test_equal_stems_do_not_overwrite_each_other(run, photos, tmp_path) -> None:
    photo(photos / "a.bmp", 200)
    assert run(photos) == 0
    names = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    assert names == ["a.bmp.png", "a.png.png", "b.png", "c.png"]


def test_two_folders_with_the_same_name_inside_are_refused(run, fake, photos, tmp_path, capsys):
    photo(tmp_path / "other" / "a.png", 1)
    assert run(photos, tmp_path / "other") == 2
    assert "would both become a.png" in capsys.readouterr().err and not fake.prompts


def test_no_pictures_is_an_error(run, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty") == 2
    assert "No pictures in" in capsys.readouterr().err
    assert run(tmp_path / "*.tga") == 2
    assert "matches none" in capsys.readouterr().err


def test_what_pillow_opens_is_taken_and_the_rest_is_counted(
    run, fake, photos, tmp_path, capsys
) -> None:
    for number, name in enumerate(("d.jfif", "e.jpe", "f.tga", "g.JP2")):
        photo(photos / name, 50 + 20 * number)
    for name in ("raw.NEF", "raw.dng", "clip.mp4", "notes.txt", "._a.png", "no_extension"):
        (photos / name).write_bytes(b"something")
    (photos / "deep").mkdir()
    assert run(photos) == 0
    assert len(fake.prompts) == 7
    said = capsys.readouterr().err
    assert "2 raw files of a camera, to be developed to TIFF or PNG first: raw.NEF, raw.dng" in said
    assert "3 of a kind that Pillow does not read here: clip.mp4, no_extension, notes.txt" in said
    assert "1 hidden: ._a.png" in said
    assert "1 folders in folders (--recursive looks into them): deep" in said


def test_many_names_are_counted_and_some_are_said(run, photos, capsys) -> None:
    for number in range(8):
        (photos / f"{number}.txt").touch()
    assert run(photos) == 0
    said = capsys.readouterr().err
    assert "8 of a kind" in said and "4.txt and 3 more" in said and "5.txt" not in said


def test_a_folder_of_what_cannot_be_read_says_what_it_holds(run, tmp_path, capsys) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "photo.cr2").touch()
    assert run(tmp_path / "in") == 2
    assert "Passed over: 1 raw files of a camera" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_named_file_is_taken_whatever_it_is_called(run, fake, photos, tmp_path) -> None:
    (photos / "a.png").rename(photos / "scan")
    assert run(photos / "scan") == 0
    assert (tmp_path / "out" / "scan.png").exists()


def test_brackets_in_a_path_that_is_there_are_no_pattern(run, fake, tmp_path) -> None:
    folder, out = tmp_path / "summer [2020]", tmp_path / "out"
    photo(folder / "a[1].png", 1)
    photo(folder / "a1.png", 2)
    photo(tmp_path / "summer 2" / "z.png", 3)
    assert run(folder / "a[1].png") == 0
    assert [p.name for p in out.glob("*.png")] == ["a[1].png"]
    assert run(folder / "*.png", output=tmp_path / "all") == 0
    assert sorted(p.name for p in (tmp_path / "all").glob("*.png")) == ["a1.png", "a[1].png"]
    assert run(folder / "a[1]*.png", output=tmp_path / "pattern") == 0
    assert run(tmp_path / "summer [x] *.png", output=tmp_path / "none") == 2


def test_brackets_where_nothing_matches_stand_for_themselves(run, tmp_path) -> None:
    photo(tmp_path / "in" / "b[7]_1.png", 1)
    assert run(tmp_path / "in" / "b[7]_*.png") == 0
    assert (tmp_path / "out" / "b[7]_1.png").exists()


def test_results_in_a_folder_above_the_photos_are_no_photos(run, fake, tmp_path, capsys) -> None:
    photo(tmp_path / "in" / "a.bmp", 1)
    for _ in range(2):
        assert run(tmp_path / "in", output=tmp_path) == 0
    for _ in range(2):
        assert run(tmp_path / "in", "-r", output=tmp_path / "in" / "sub") == 0
    assert len(fake.prompts) == 2
    assert "1 the output folder: sub" in capsys.readouterr().err


def test_links_to_folders_are_followed_but_not_in_circles(run, fake, photos, tmp_path) -> None:
    photo(tmp_path / "else" / "d.png", 99)
    (photos / "link").symlink_to(tmp_path / "else")
    (photos / "circle").symlink_to(photos)
    (photos / "dangling.png").symlink_to("nowhere")
    assert run(photos, "-r") == 0
    assert len(fake.prompts) == 4 and (tmp_path / "out" / "link" / "d.png").exists()


def test_the_same_picture_named_twice_is_taken_once(run, fake, photos) -> None:
    assert run(photos, photos / "a.png", photos / ".." / "in" / "b.png") == 0
    assert len(fake.prompts) == 3

"""The tests that are run as other processors would are there, and their counts are found."""

from pathlib import Path

import pytest

from tests import processors


def test_every_numerical_test_is_there():
    here = Path(__file__).parent
    assert all((here / f"test_{name}.py").is_file() for name in processors.NUMERICAL)


def test_tests_run_as_another_processor_are_counted(capfd, monkeypatch):
    monkeypatch.setattr(processors, "NUMERICAL", ("keys",))
    assert processors.main(["openblas-haswell", "--", "-n0", "-p", "no:cacheprovider"]) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("openblas-haswell ")
    assert " exit 0 " in last
    assert " passed" in last


def test_tests_that_fail_are_told(capfd, monkeypatch, tmp_path):
    (tmp_path / "test_wrong.py").write_text(
        "import os\ndef test_wrong(): assert os.environ.get('ONEDNN_MAX_CPU_ISA') != 'SSE41'\n"
    )
    words = [str(tmp_path), "-n0", "-p", "no:cacheprovider"]
    status, counted = processors.run("onednn-sse41", words)
    assert (status, "1 failed" in counted) == (1, True)
    assert processors.run("openblas-haswell", words)[0] == 0
    assert processors.run("busy", words)[0] == 0


def test_a_processor_that_is_none_is_refused(capsys):
    assert processors.main(["itanium"]) == 2
    assert "there are torch-avx2" in capsys.readouterr().err


@pytest.mark.parametrize("name", processors.PROCESSORS)
def test_no_variable_is_empty(name):
    assert all(processors.PROCESSORS[name].values()) or name == "numpy-baseline"

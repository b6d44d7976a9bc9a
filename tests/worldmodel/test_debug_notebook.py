"""The notebook runs from its first cell to its last, on a model that has learnt next to nothing."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "experiments/notebooks/debug.ipynb"


def test_the_debugging_notebook_runs(trained_run, monkeypatch):
    monkeypatch.setenv("CWM_RUN", str(trained_run))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    kinds = [kind for cell in notebook.cells for out in cell.get("outputs", ()) for kind in out.get("data", ())]
    assert "application/vnd.jupyter.widget-view+json" in kinds and kinds.count("text/html") == 4
    said = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    assert "returned after 40 frames" in said and "strawberry: 0003" in said

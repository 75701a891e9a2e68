"""stub to be replaced"""
from pathlib import Path
def write_report(study, folder):
    p = Path(folder)/"index.html"; p.write_text("x"); return p

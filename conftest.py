"""Tests and nbval run in the tiny profile with an output folder of their own, which goes with them:
committed results are never touched."""
import atexit
import os
import shutil
import tempfile

os.environ["ATTNLIB_PROFILE"] = "smoke"
os.environ["ATTNLIB_OUT"] = tempfile.mkdtemp(prefix="attnlib-test-")
atexit.register(shutil.rmtree, os.environ["ATTNLIB_OUT"], ignore_errors=True)

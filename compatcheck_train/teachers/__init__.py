"""The old and the new model as teachers: run beside the student, or once and kept."""

from __future__ import annotations

from compatcheck_train.teachers.cache import CachedTeacher, build, estimate_bytes
from compatcheck_train.teachers.online import OnlineTeacher

Teacher = OnlineTeacher | CachedTeacher

__all__ = ["CachedTeacher", "OnlineTeacher", "Teacher", "build", "estimate_bytes"]

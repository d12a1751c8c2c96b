"""The old and the new model as teachers: run beside the student, or once and kept."""

from __future__ import annotations

from compatcheck_train.teachers.base import Teacher, TeacherBatch, Wants
from compatcheck_train.teachers.cache import CachedTeacher, build, cache_key, estimate_bytes
from compatcheck_train.teachers.online import OnlineTeacher

__all__ = [
    "CachedTeacher",
    "OnlineTeacher",
    "Teacher",
    "TeacherBatch",
    "Wants",
    "build",
    "cache_key",
    "estimate_bytes",
]

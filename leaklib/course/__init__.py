"""The course: challenges, and the grading of assignments."""

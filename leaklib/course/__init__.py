"""The course: an image to capture for each student, and assignments that grade themselves."""

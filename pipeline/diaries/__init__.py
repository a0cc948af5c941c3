"""Around the diaries of a run: which videos, why one failed, under which ids, and what lies in the output folder."""

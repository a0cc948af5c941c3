"""Reviewing diaries: a page on this machine that plays what a diary states and appends what people say of it."""

"""Damage done to slides on purpose."""

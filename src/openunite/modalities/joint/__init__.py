"""Molecules and crystals under one model."""

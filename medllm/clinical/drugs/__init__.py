"""Drugs as texts name them: ingredients, products of several, and classes."""

"""Twins of hand-set models, trained: does gradient descent find what the hand can set?"""

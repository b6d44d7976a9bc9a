"""Asynchronous reinforcement learning: one learner, inference hosts that take its weights mid-trajectory, environments.

Files carry data, whoever runs the roles carries control: losing every process loses time and nothing else.
"""

"""The network and all that makes one: start at network.py.

config.py says what a model is, network.py is DTFSal from top to bottom, blocks.py its parts, encoders/ what sees,
audio.py what hears, weights.py how weights are read and written. Training and evaluation are other rooms.
"""

"""How fast a model runs: latency, scaling, layers, live speed, streams, stages."""

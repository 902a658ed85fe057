"""int8 on OpenVINO: ranges found once on real frames, kept beside the weights, put into the graph."""

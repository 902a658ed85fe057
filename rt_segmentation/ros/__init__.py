"""ROS 2 nodes: they adapt messages, parameters and logs, nothing else."""

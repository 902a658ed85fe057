"""Real-time semantic segmentation for ROS 2."""

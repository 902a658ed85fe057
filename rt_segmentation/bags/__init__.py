"""Rosbags: read whole or damaged, written in splits. Needs the library rosbags, and no ROS."""

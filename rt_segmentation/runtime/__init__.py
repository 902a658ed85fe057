"""What keeps a stream real-time: the newest-frame slot, and statistics. No rclpy."""

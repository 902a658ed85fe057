"""The demo: a camera process, the node, and a viewer that checks and pictures what comes out."""

#!/usr/bin/env bash
# ROS 2, the workspace, and where there is one the virtual environment; then what was asked for.
set -eo pipefail
for setup in "/opt/ros/$ROS_DISTRO/setup.bash" "/opt/ros/$ROS_DISTRO/install/setup.bash" /venv/bin/activate \
  /ws/install/setup.bash; do
  if [ -f "$setup" ]; then
    # shellcheck disable=SC1090
    source "$setup"
  fi
done
exec "$@"

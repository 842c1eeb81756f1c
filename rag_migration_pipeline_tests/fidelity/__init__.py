"""Nothing is lost: generated collections travel and come home, and each known way to lose data is tried."""

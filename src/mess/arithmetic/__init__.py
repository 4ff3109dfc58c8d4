"""What learning, the codec and its readers must compute alike, to the last bit."""

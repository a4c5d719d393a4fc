//! Search over what is indexed, joined with the truth, and its HTTP face.

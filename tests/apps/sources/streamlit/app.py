import streamlit as st

if "count" not in st.session_state:
    st.session_state.count = 0
if st.button("Press"):
    st.session_state.count += 1
st.write(f"pressed {st.session_state.count} times")
name = st.text_input("Name")
if name:
    st.write(f"Hello, {name}!")
file = st.file_uploader("File")
if file:
    st.write(f"{len(file.getvalue())} bytes")
st.download_button("Save", "saved by Streamlit", "saved.txt")
st.line_chart([1, 3, 2])
